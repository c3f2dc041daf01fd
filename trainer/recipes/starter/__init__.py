"""The recipe of the starter model: an ImageNet network imitated on stills and frames, then real clips."""
