"""A web page to try PAGE-4D on a video of one's own: `page4d app`."""
