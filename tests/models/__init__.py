"""Tests of engines.models: the store, its sources and the converter."""
