"""Which channels and places of a layer an answer rests on."""
