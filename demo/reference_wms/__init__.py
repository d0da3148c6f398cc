"""A small warehouse management system of its own process, for the demo and the tests; see docs/connect-a-wms.md."""
