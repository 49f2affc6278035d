"""PAGE-4D for nerfstudio: the method `page4d-4dgs` and the dataparser `page4d-data`."""
