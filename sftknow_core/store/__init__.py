"""The cache: run folders, the catalogue over them, and tidy tables to plot.

    cache.py        where things lie                  run_folder.py   reading one run
    run_spec.py     what a run is: its id             open_run.py     making one run: cache hit, attach, go on
    schema.py       every table and column            catalogue.py    the runs' rows in DuckDB
    listing.py      what is there, by prefix          gc.py           what can go
    views.py        tables ready to plot

Folders are the source of truth; the catalogue can be rebuilt from them at any time.
"""
