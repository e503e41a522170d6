"""Words on a command line: parse, call one function, print."""
