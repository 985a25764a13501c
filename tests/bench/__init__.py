"""Tests of the parts of the bench that measure nothing."""
