"""PyTorch models: the ConvLSTM autoencoder, the dual Transformer, and the checkpoint that holds them."""
