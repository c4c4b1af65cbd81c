"""Random programs over keyed counters, on the real stack under faults; `make verify PROGRAMS=50`."""
