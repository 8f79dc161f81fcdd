# The course in a container, weights inside: once it is built, it needs no network.
#
#   docker build -t bertlab .
#   docker run --rm -it -p 127.0.0.1:8888:8888 -v bertlab-notebooks:/home/learner/bertlab/notebooks bertlab
#
# Open the address with 127.0.0.1 that it prints: its token is the password. The volume keeps what you change.
# 127.0.0.1 in -p lets this computer in and nobody else; leave the token on even there, for the lab runs any code.
FROM python:3.12-slim-bookworm

# Only the CPU build of torch: without this index Linux pulls about 3 GB of CUDA.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 learner && install --directory --owner=learner /home/learner/bertlab
USER 1000
ENV PATH=/home/learner/.venv/bin:$PATH
WORKDIR /home/learner/bertlab

# The packages first: a changed notebook does not install them again.
COPY --chown=1000 pyproject.toml requirements.txt requirements.lock README.md LICENSE ./
RUN python -m venv /home/learner/.venv && pip install --no-cache-dir -r requirements.txt -c requirements.lock
COPY --chown=1000 bertlab bertlab
COPY --chown=1000 data data
COPY --chown=1000 tests tests
COPY --chown=1000 notebooks notebooks
COPY --chown=1000 notebooks notebooks/.originals
RUN bertlab doctor

EXPOSE 8888
CMD ["bertlab", "lab", "--no-browser", "--port", "8888", "--ip=0.0.0.0"]
