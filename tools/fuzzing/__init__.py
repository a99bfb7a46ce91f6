"""What tools/fuzz.py runs: targets, the guard around each input, and structured inputs."""
