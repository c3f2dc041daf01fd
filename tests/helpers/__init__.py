"""Generated footage, models, servers and a browser that several tests share."""
