"""What `bertlab pack` puts into a bundle to install it with; install.py runs by itself, before anything is installed."""
