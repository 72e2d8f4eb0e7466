// What disks of stopped machines cost, in words.
#include "cluster/disk_price.h"

#include <gtest/gtest.h>

namespace muster::cluster {
namespace {

TEST(DiskPrice, IsTheListPriceOfTheRegionThatIsKnown) {
  Cluster cluster;
  cluster.set_provider(Cluster::AWS);
  cluster.mutable_aws()->set_disk_gb(100);
  EXPECT_EQ(DisksText(cluster, 3, "us-east-1"),
            "3 disks of 100 GB, about $24.00 a month (gp3 at $0.08 per GB, us-east-1)");
  cluster.set_provider(Cluster::GCP);
  cluster.mutable_gcp()->set_disk_gb(50);
  EXPECT_EQ(DisksText(cluster, 1, ""),
            "1 disk of 50 GB, about $5.00 a month (pd-balanced at $0.10 per GB, us-central1)");
}

TEST(DiskPrice, WhatIsNotKnownIsSaid) {
  Cluster cluster;
  cluster.set_provider(Cluster::AWS);
  EXPECT_EQ(DisksText(cluster, 1, "us-east-1"),
            "1 disk of the image's own size, each month gp3 at $0.08 per GB, us-east-1");
  EXPECT_EQ(DisksText(cluster, 1, "eu-west-1"),
            "1 disk of the image's own size, each month gp3 at $0.08 per GB, us-east-1; the price "
            "in eu-west-1 is not known here");
  cluster.mutable_aws()->set_disk_gb(10);
  EXPECT_EQ(DisksText(cluster, 2, "eu-west-1"),
            "2 disks of 10 GB; what they cost in eu-west-1 is not known here (gp3 at $0.08 per GB, "
            "us-east-1)");
}

}  // namespace
}  // namespace muster::cluster
