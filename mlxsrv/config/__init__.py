"""Settings: the only place for defaults. `settings` says what there is, `sources` reads it."""
