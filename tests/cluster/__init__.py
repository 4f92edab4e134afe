"""Tests of archshift.cluster, against made-up answers of an API server."""
