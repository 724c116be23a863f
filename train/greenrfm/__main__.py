"""`python -m greenrfm`: the command line where no console script is on the path."""

from greenrfm.commands.main import main

if __name__ == "__main__":  # worker processes import this module too
    main()
