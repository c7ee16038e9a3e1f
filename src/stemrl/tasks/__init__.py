"""Task families in pure JAX, and adapters to the families of others."""
