"""Numbers with their nouns, for sentences."""


def many(number: int, noun: str) -> str:
    """One of a kind, or several.

    >>> many(1, "good image"), many(20, "good image")
    ('1 good image', '20 good images')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")
