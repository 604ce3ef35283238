"""From the disk to arrays, without torch: folders, decoding, the pixel policy, masks, groups, splits, files."""
