"""The HTTP surface: one file per route family, wire types in `schemas`."""
