// The parameters of models that the literature compares systems by, in the order of their forward
// pass, built from the architecture. Free functions, thread-safe.
#pragma once

#include <vector>

#include "ps/param.h"

namespace muster::ps {

// VGG-16: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
// recognition", 2014, configuration D, 1,000 classes.
std::vector<ParamSpec> Vgg16();

// ResNet-50: He et al., "Deep residual learning for image recognition", 2015, 1,000 classes, with
// the running means and variances of its batch normalisation.
std::vector<ParamSpec> ResNet50();

// BERT-large, uncased: Devlin et al., "BERT", 2018, with its pooler.
std::vector<ParamSpec> BertLarge();

// DLRM: Naumov et al., "Deep learning recommendation model", 2019, for Criteo's Kaggle data: bottom
// MLP 13-512-256-64-16, 26 tables of 16 columns, top MLP 367-512-256-1.
std::vector<ParamSpec> DlrmCriteoKaggle();

}  // namespace muster::ps
