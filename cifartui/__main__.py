"""Program `python -m cifartui`: the command line."""

from cifartui import main

main()
