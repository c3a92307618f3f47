"""Journeys across rooms, one file each: where an act of a person or an event of the provider touches several rooms."""
