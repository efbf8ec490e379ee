"""Who can be asked: models with endpoints and prices, and the strategies by which they are asked."""
