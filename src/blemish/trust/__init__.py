"""Statistics on arrays of scores: what is promised, how it is kept, what would go unseen.

The plain-words account, with every assumption and source, is docs/explain/guarantees.md.
"""

from blemish.trust.certificate import conformal_threshold, images_needed, p_value, smallest_rate

__all__ = ["conformal_threshold", "images_needed", "p_value", "smallest_rate"]
