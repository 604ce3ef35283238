"""Hazelnuts and defects, drawn with exact masks."""
