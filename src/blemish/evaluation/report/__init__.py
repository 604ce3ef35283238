"""What the pages share: charts, pictures, style, and the report of an evaluation."""
