"""The command line; each command imports its room only when it is called."""
