"""Values that other programs have computed, with which tests compare BAiO's tools."""
