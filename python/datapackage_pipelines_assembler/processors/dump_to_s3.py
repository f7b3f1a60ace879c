import os

from datapackage_pipelines.lib.dump.dumper_base import FileDumper

from datapackage_pipelines_aws import client, upload


class S3Dumper(FileDumper):
    """Writes a package into a bucket, below a path.

    The place that other pipelines read it from is the folder that it was written to
    before, so this one names none.
    """

    def initialize(self, params):
        super().initialize(params)
        self.bucket, self.path = params['bucket'], params['path']
        self.acl = params.get('acl', 'private')
        self.content_type = params.get('content_type', 'application/octet-stream')
        self.s3 = client()

    def write_file_to_output(self, filename, path):
        key = os.path.join(self.path, path)
        upload(self.s3, filename, self.bucket, key, self.content_type, self.acl,
               once=self.add_filehash_to_path and os.path.basename(path) != 'datapackage.json')


if __name__ == '__main__':
    S3Dumper()()
