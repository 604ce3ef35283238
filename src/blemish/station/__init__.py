"""The station: images come in, are judged, and people see, correct and answer for what was decided, in a browser.

Everything that is decided goes through one database (`database`, `tables`); the pages and the API (`app`) only read it
and write what people do; one process (`worker`) takes images from the queue and judges them.
"""
