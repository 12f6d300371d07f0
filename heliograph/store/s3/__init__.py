"""Object store in a bucket: S3, stores that speak its protocol, and OSS through its S3 endpoint."""

from heliograph.store.s3.store import S3Store as S3Store
