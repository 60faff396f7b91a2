"""One page for a browser that shows a deployment. It needs nothing from elsewhere, and runs no script."""
