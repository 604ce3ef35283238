"""How the tables of a station came to be, step by step."""
