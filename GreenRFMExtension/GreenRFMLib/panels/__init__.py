"""The panels of the module: one file and one .ui each, none imports another."""
