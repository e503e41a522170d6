"""The page that people use: routes and the files of it, in `static/`."""
