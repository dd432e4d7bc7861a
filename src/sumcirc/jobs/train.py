from __future__ import annotations
PREPARE = lambda o: o
def run(config):
    print(config)
