from .vae import VAEReformer as VAEReformer
