"""What ``python -m nearcache.cli`` runs."""

from nearcache.cli import main

if __name__ == "__main__":
    main()
