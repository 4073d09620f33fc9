"""`python -m shortcast` is `shortcast`."""

from .cli import main

if __name__ == "__main__":
    main()
