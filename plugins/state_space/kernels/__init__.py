"""Systems that do not change with time, at run time: torch alone."""
