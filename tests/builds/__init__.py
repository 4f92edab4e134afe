"""Tests of image builds."""
