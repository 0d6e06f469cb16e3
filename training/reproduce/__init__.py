"""The paper's tables and figures as jobs: which networks each needs, and the engines that train and evaluate them."""
