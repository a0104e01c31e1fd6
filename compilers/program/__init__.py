"""The program: what a plan makes of a graph, before any machine. Nothing in it is implicit: memories are read and written by name, every
system is arithmetic, a kernel or a loop."""
