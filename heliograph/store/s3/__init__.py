"""Objects in a bucket: S3, whatever speaks its protocol, and OSS through its S3 endpoint."""

from heliograph.store.s3.store import S3Store as S3Store
