"""Ground truth, published proxies, tables: what a proxy is measured against."""
