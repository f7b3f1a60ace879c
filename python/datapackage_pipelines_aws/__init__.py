"""What the plans of a specstore do with a bucket: ``assembler.dump_to_s3`` and
``aws.change_acl``.

The store is that of the environment: ``S3_ENDPOINT_URL`` for one that is not Amazon's,
and ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_REGION`` as everywhere.
"""
import os


def client():
    """A client of the store. It needs boto3."""
    import boto3
    region = os.environ.get('AWS_REGION') or os.environ.get('AWS_DEFAULT_REGION') or 'us-east-1'
    return boto3.client('s3', endpoint_url=os.environ.get('S3_ENDPOINT_URL') or None, region_name=region)


def upload(s3, filename, bucket, key, content_type, acl, once):
    """Stores a file. One that is named by its content is not stored twice."""
    if once and exists(s3, bucket, key):
        return False
    with open(filename, 'rb') as body:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, ACL=acl)
    return True


def exists(s3, bucket, key):
    found = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    return any(o['Key'] == key for o in found.get('Contents', []))


def change_acl(s3, bucket, path, acl):
    """Gives all objects below a path an access list. It gives how many there are."""
    n, more = 0, {}
    while True:
        page = s3.list_objects_v2(Bucket=bucket, Prefix=path.rstrip('/') + '/', **more)
        for o in page.get('Contents', []):
            s3.put_object_acl(Bucket=bucket, Key=o['Key'], ACL=acl)
            n += 1
        if not page.get('IsTruncated'):
            return n
        more = {'ContinuationToken': page['NextContinuationToken']}
