"""`sftknow ...`: the commands, one module a group (app.py puts them together)."""
