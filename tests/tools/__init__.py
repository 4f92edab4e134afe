"""Tests of what finds and builds the programs."""
