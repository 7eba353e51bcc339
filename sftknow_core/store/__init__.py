"""The cache: run folders, and the catalogue over them.

    cache.py        where things lie                  run_folder.py   reading one run
    run_spec.py     what a run is: its id             open_run.py     making one run: cache hit, attach, go on
    schema.py       every table and column            catalogue.py    the runs' rows in DuckDB
    listing.py      what is there, by prefix          gc.py           what can go

Folders are the source of truth; the catalogue can be rebuilt from them at any time.
"""
