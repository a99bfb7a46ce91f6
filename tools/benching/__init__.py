"""Two commits of this repository, built and measured in turns: see tools/bench_commits.py."""
