"""Tests of the core: pure values in, values out; readers against made-up answers."""
