"""`python -m focus_detr` is `focus-detr`."""

from focus_detr.cli import main

if __name__ == "__main__":
    main()
